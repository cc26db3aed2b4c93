"""Under ``organs`` and ``templates``: organ maps, class tables, plausibility and place names, words of radiology reports."""
