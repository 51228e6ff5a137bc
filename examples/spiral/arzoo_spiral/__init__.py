"""A plan and a backbone for arzoo in a package of their own."""
