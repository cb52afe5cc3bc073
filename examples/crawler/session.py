"""Crawl a web site with three workers: the session serves the site, and the queue of addresses that are still to be read.

The site is made of pages that link to each other, with loops and dead ends; nothing outside of the session is contacted.
"""

import html.parser
import http.server
import os
import queue
import secrets
import threading
from multiprocessing.managers import BaseManager

import cdsw

PAGES, QUEUE_PORT, SITE_PORT = 120, 5000, 8000


# ---- the site: page n links to others, and to one that does not exist
def page(n):
    links = [(n * 7 + 1) % PAGES, (n * 3 + 2) % PAGES, n // 2, PAGES + n]
    return "<title>Page %d</title>%s" % (n, "".join('<a href="/%d">%d</a> ' % (k, k) for k in links))


class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        n = self.path.strip("/")
        known = n.isdigit() and int(n) < PAGES
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(page(int(n)).encode() if known else b"")

    def log_message(self, *args):
        pass


site = http.server.ThreadingHTTPServer(("", SITE_PORT), Site)
threading.Thread(target=site.serve_forever, daemon=True).start()
root = "http://%s:%d" % (os.environ["CDSW_IP_ADDRESS"], SITE_PORT)


# ---- the queue: an address is put into it once, None ends a worker
class Queues(BaseManager):
    """The two queues, for whoever knows the key."""


todo, found = queue.Queue(), queue.Queue()
Queues.register("todo", callable=lambda: todo)
Queues.register("found", callable=lambda: found)
key = secrets.token_hex(16)
server = Queues(("", QUEUE_PORT), authkey=key.encode()).get_server()
threading.Thread(target=server.serve_forever, daemon=True).start()

workers = cdsw.launch_workers(n=3, cpu=0.3, memory=0.3, name="crawler", script="worker.py", env={"QUEUE_PORT": QUEUE_PORT, "QUEUE_KEY": key})
seen, titles, missing, readers = {root + "/0"}, {}, set(), set()
todo.put(root + "/0")
waiting = 1  # addresses that were handed out and are not answered yet
while waiting:
    worker, address, title, links = found.get(timeout=60)
    waiting -= 1
    readers.add(worker)
    if title is None:
        missing.add(address)
    else:
        titles[address] = title
    for link in links:
        if link not in seen:
            seen.add(link)
            todo.put(link)
            waiting += 1
for _ in workers:
    todo.put(None)
done = cdsw.await_workers(workers)
assert len(done["workers"]) == 3, "%d of 3 workers failed" % len(done["failures"])


# ---- the same walk without workers and without the network
class Links(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.numbers = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "a":
            self.numbers.append(int(dict(attributes)["href"].strip("/")))


known, dead, walk = {0}, set(), [0]
while walk:
    for k in Links(page(walk.pop())).numbers:
        if k >= PAGES:
            dead.add(k)
        elif k not in known:
            known.add(k)
            walk.append(k)
assert titles == {"%s/%d" % (root, k): "Page %d" % k for k in known}, "the workers found other pages: %s" % titles
assert missing == {"%s/%d" % (root, k) for k in dead}, "the workers missed other pages: %s" % missing
assert readers <= {w["id"] for w in workers}
print("%d workers found %d pages and %d dead links, as without workers" % (len(readers), len(titles), len(missing)))
