"""NAMO as a producer: scenes, a robot that pushes boxes in MuJoCo, and planners that use it."""
