"""What stands on disk around the arrays: paths, metadata, tables, versions and the road to a new one."""
