import cdsw
for kind, arguments in ((TypeError, (None, 1, 1)), (ValueError, ("x", 1, 1)), (ValueError, (-1, 1, 1)), (ValueError, (10001, 1, 1)), (ValueError, (1, "much", 1))):
    try:
        cdsw.launch_workers(*arguments, code="1")
    except kind as e:
        assert str(e), arguments
    else:
        raise SystemExit("no error: %r" % (arguments,))
assert cdsw.list_workers() == []
