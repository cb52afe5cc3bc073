import os

os.environ["MUSTER_ATTACH"] = "off"  # a test that imports cdsw is not to start a server
