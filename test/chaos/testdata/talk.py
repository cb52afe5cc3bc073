# What sessions and workers have in common: lines with a number and a checksum, and a note behind each that it was printed.
# A plan says how (plan.go); the checker knows the lines by their form (lines.go).
import os
import time
import zlib


def write(fd, data):
    while data:  # a process that was stopped and goes on may have written a part
        data = data[os.write(fd, data):]


class Talker:
    def __init__(self, name):
        self.name, self.numbers = name, {"o": 0, "e": 0}
        self.notes = os.open("notes/" + name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(self.notes, b"s")

    def say(self, stream, pad=""):
        n = self.numbers[stream]
        self.numbers[stream] = n + 1
        text = "%s:%s:%d:%s" % (self.name, stream, n, pad)
        write(1 if stream == "o" else 2, ("~%s:%08x~\n" % (text, zlib.crc32(text.encode()))).encode())
        os.write(self.notes, stream.encode())

    def end(self):
        os.write(self.notes, b"x")


def talk(name, plan, go_on=lambda: True):
    """Print as the plan says. Return when its lines are printed, or when go_on says so."""
    talker, n, pause = Talker(name), 0, 1 / plan["rate"]
    while go_on() and not (plan["lines"] and n >= plan["lines"]):
        for _ in range(plan["burst"]):
            pad = "x" * (plan["long"] if n % 23 == 7 else plan["pad"])
            talker.say("e" if plan["errors"] and n % plan["errors"] == 1 else "o", pad)
            n += 1
        time.sleep(pause * plan["burst"])
    return talker
