"""A plan and a backbone for arzoo in a separate package."""
