"""robosuite as a producer: environments, scripted policies, rendering after success."""
