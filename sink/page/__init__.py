"""`headrace page`: what a collection is doing and has made, in a browser. It writes nothing but flags of episodes."""
