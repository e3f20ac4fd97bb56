"""The delivery machines with thousands of producers, without sockets, files or real time.

Everything that happens is an entry of one heap, all chance comes from one seed, and every message is really encoded and
decoded. Payload is one shared buffer: only its length is simulated.
"""
