"""The parts of a job file, each as frozen, checked objects."""
