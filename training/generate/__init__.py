"""Generation at scale: choose template scans, plan the cases, make them on any number of workers, keep account of them.

``table`` reads the list of scans, ``templates`` judges them, ``plan`` says what each case is, ``make`` makes cases in a worker,
``schedule`` spreads them over workers, ``manifest`` keeps account, ``quality`` draws the page, ``session`` runs it all.
"""
