"""The paper's 46 tasks, its rivals and its statistics under one harness."""
