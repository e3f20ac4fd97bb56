"""A world without sockets, files or clock, in which everything goes wrong: one sink, its disk, producers, lossy links.

Theory of operation. Time is a float, and everything that happens is an entry of one heap; all chance comes from one
seed. The delivery machines are the real ones, and every message is really encoded and decoded. The disk is the oracle:
it knows for each index the one and only right content, counts commits and bytes, and asserts. So a test only has to
cause trouble (`Link.cut`, `Worker.hang`, `Sink.crash`, ...) and, at the end, to ask for `World.settle`.

What a link may do: like ZeroMQ it keeps the order of a connection and never damages a message. But a cut connection
loses any of its messages in flight, others of them arrive much later, and a message may arrive twice.
"""
