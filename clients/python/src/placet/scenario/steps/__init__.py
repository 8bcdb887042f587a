"""The kinds of steps, one a file. `union` lists them; CONTRIBUTING.md says how to add one."""
