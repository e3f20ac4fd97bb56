"""What every server of Headrace needs, whatever it serves: keys, a guard of its connections, words to its manager."""
