"""The ground floor: errors, configs, names, files, devices and what a terminal shows. Imports nothing of arzoo."""
