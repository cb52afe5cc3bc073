"""Read pages whose addresses come from the session's queue, and send back their titles and links."""

import html.parser
import os
import urllib.error
import urllib.parse
import urllib.request
from multiprocessing.managers import BaseManager


class Queues(BaseManager):
    """The session's two queues."""


Queues.register("todo")
Queues.register("found")


class Page(html.parser.HTMLParser):
    """The title of a page and the addresses to which it links."""

    def __init__(self, address, text):
        super().__init__()
        self.address, self.title, self.links, self.tag = address, "", [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tag = tag
        if tag == "a":
            self.links.append(urllib.parse.urljoin(self.address, dict(attributes)["href"]))

    def handle_data(self, data):
        if self.tag == "title":
            self.title += data

    def handle_endtag(self, tag):
        self.tag = ""


session = Queues((os.environ["CDSW_MASTER_IP"], int(os.environ["QUEUE_PORT"])), authkey=os.environ["QUEUE_KEY"].encode())
session.connect()
todo, found = session.todo(), session.found()
count = 0
while True:
    address = todo.get()
    if address is None:
        break
    title, links = None, []
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            page = Page(address, answer.read().decode())
            title, links = page.title, page.links
    except urllib.error.HTTPError as e:
        if e.code != 404:
            raise
    found.put((os.environ["CDSW_ENGINE_ID"], address, title, links))
    count += 1
print("read %d addresses" % count)
