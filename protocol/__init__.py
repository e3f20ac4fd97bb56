"""The agreement that every program of Headrace shares: messages, delivery rules, disk layout, JPEG. No sockets."""
