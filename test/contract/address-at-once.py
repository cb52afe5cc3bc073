import cdsw, ipaddress
ws = cdsw.launch_workers(2, 0.2, 0.1, code="1")
assert len({ipaddress.ip_address(w["ip_address"]) for w in ws}) == 2, ws
assert all(w["app_url"].startswith("http://" + w["id"] + ".") and w["app_url"].endswith("/") for w in ws), ws
