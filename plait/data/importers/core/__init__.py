"""What importers share: one walk, one reader of lists, one search for files, one function for boxes, one report.

Modules of this folder are no importers, and none of them knows a format.
"""
