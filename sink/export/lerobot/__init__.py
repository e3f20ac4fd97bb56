"""LeRobotDataset v3.0: files of many episodes each, made from a part for each episode."""
