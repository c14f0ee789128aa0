"""The release console: a page of pipeline runs, a page of registered versions and why they were promoted."""
