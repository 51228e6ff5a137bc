"""Drivers that draw several steps in one network call, and the same tokens as the loop that draws one."""
