"""Navigation among movable obstacles (NAMO): what planner, inference server and trainer share."""
