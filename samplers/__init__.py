"""The one loop, plans, schedules and filters."""
