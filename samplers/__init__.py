"""The one loop, plans, schedules, filters, search and verifiers."""
