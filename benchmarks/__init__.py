"""How fast, how large, how soon: every figure beside something measured in the same run. Nothing here asserts."""
