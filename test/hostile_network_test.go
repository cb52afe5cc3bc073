package test

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// strangers are services that engines must not reach: each answers whoever connects, and is asked by the test first.
func strangers(t *testing.T) (env []string) {
	t.Helper()
	const metadata = "169.254.169.254"
	if out, err := exec.Command("ip", "address", "add", metadata+"/32", "dev", "lo").CombinedOutput(); err != nil && !strings.Contains(string(out), "exists") && !strings.Contains(string(out), "already") {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("ip", "address", "delete", metadata+"/32", "dev", "lo").Run() })
	for _, s := range []struct{ name, network, address string }{
		{"LOOPBACK", "tcp", "127.0.0.1:0"}, {"LOOPBACK6", "tcp", "[::1]:0"}, {"METADATA", "tcp", metadata + ":0"},
		{"ABSTRACT", "unix", "@muster-test-" + filepath.Base(t.TempDir()) + t.Name()},
	} {
		l, err := net.Listen(s.network, s.address)
		if err != nil && s.name == "LOOPBACK6" {
			continue // a machine without it
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprintln(c, "a stranger's answer")
				c.Close()
			}
		}()
		c, err := net.Dial(s.network, l.Addr().String())
		if err != nil {
			t.Fatalf("%s does not answer the host: %v", s.name, err)
		}
		c.Close()
		env = append(env, s.name+"="+l.Addr().String())
	}
	return env
}

// Engines reach neither other sessions nor what the host has for itself, and cannot seem to be somebody else.
func TestHostileNetwork(t *testing.T) {
	n := newNeighbour(t)
	n.env = append(n.env, strangers(t)...)
	n.write("listens.py", `
import cdsw, os, socket, time
l = socket.create_server(("0.0.0.0", 7000))
print("listens at", os.environ["CDSW_IP_ADDRESS"], flush=True)
while True:
    c, _ = l.accept(); c.sendall(b"a stranger's answer\n"); c.close()
`)
	other := n.start("run", "listens.py")
	n.env = append(n.env, "OTHER="+other.match(`listens at ([\d.]+)\n`)[0]+":7000", "CALM="+n.calm.match(`address ([\d.]+)\n`)[0]+":22")
	r := n.script(`
import cdsw, errno, fcntl, os, socket, struct, subprocess, threading
def outcome(name, f):
    try:
        print(f"{name}: DONE {f()}", flush=True)
    except OSError as e:
        print(f"{name}: refused {errno.errorcode.get(e.errno, e)}", flush=True)
def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as s:
        s.settimeout(5)
        s.connect(address)
        got = s.recv(100)
        if not got: raise OSError(errno.ECONNRESET, "closed")
        return got
def split(name):
    host, _, port = os.environ[name].rpartition(":")
    return host.strip("[]"), int(port)
for name in ("OTHER", "CALM", "LOOPBACK", "METADATA"):
    outcome(name, lambda: connect(socket.AF_INET, split(name)))
if "LOOPBACK6" in os.environ: outcome("LOOPBACK6", lambda: connect(socket.AF_INET6, split("LOOPBACK6")))
def scan():  # each session's network may use the same addresses: whichever the other has, it is not here
    for last in range(1, 6):
        try:
            return connect(socket.AF_INET, (f"100.100.0.{last}", 7000))
        except OSError as e:
            error = e
    raise error
outcome("whoever listens at the other's port", scan)
port = split("LOOPBACK")[1]
gateway = [l.split()[1] for l in open("/etc/resolv.conf") if l.startswith("nameserver")][0]
for host in ("0.0.0.0", "localhost", "127.0.0.2", gateway):
    outcome("loopback by " + host, lambda: connect(socket.AF_INET, (host, port)))
outcome("loopback in IPv6", lambda: connect(socket.AF_INET6, ("::ffff:127.0.0.1", port)))
outcome("metadata in IPv6", lambda: connect(socket.AF_INET6, ("::ffff:169.254.169.254", split("METADATA")[1])))
outcome("ABSTRACT", lambda: connect(socket.AF_UNIX, "\0" + os.environ["ABSTRACT"][1:]))
for name, family, kind, proto in [
    ("raw ICMP", socket.AF_INET, socket.SOCK_RAW, 1), ("raw IP", socket.AF_INET, socket.SOCK_RAW, 255), ("raw IPv6", socket.AF_INET6, socket.SOCK_RAW, 58),
    ("packets", socket.AF_PACKET, socket.SOCK_RAW, 0x300), ("datagrams of packets", socket.AF_PACKET, socket.SOCK_DGRAM, 0x300),
    ("keys", 15, socket.SOCK_RAW, 2), ("XDP", 44, socket.SOCK_RAW, 0), ("VSOCK", 40, socket.SOCK_STREAM, 0), ("the kernel's ciphers", 38, socket.SOCK_SEQPACKET, 0),
    ("bluetooth", 31, socket.SOCK_RAW, 1), ("TIPC", 30, socket.SOCK_SEQPACKET, 0), ("CAN", 29, socket.SOCK_RAW, 1), ("RDS", 21, socket.SOCK_SEQPACKET, 0),
]:
    outcome("socket of " + name, lambda: socket.socket(family, kind, proto))
def option(level, name, value):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.setsockopt(level, name, value)
outcome("be transparent", lambda: option(socket.IPPROTO_IP, 19, 1))
outcome("mark packets", lambda: option(socket.SOL_SOCKET, 36, 1))
outcome("force buffers", lambda: option(socket.SOL_SOCKET, 33, 1 << 30))
def interface(call, data):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: return fcntl.ioctl(s, call, data)
link = [n for _, n in socket.if_nameindex() if n != "lo"][0].encode()
outcome("change the address", lambda: interface(0x8916, struct.pack("16sH2s4s8x", link, socket.AF_INET, b"", socket.inet_aton("10.1.2.3"))))
outcome("take the link down", lambda: interface(0x8914, struct.pack("16sH14x", link, 0)))
outcome("listen to everything", lambda: interface(0x8914, struct.pack("16sH14x", link, 0x1143)))
def netlink(family, kind, flags, body):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family) as s:
        s.sendto(struct.pack("IHHII", 16 + len(body), kind, 5 | flags, 1, 0) + body, (0, 0))
        error = struct.unpack_from("i", s.recv(4096), 16)[0]
        if error: raise OSError(-error, os.strerror(-error))
        return "accepted"
outcome("add a route", lambda: netlink(0, 24, 0x600, struct.pack("8BI", 2, 0, 0, 0, 254, 3, 253, 1, 0)))
outcome("change the firewall", lambda: netlink(12, 10 << 8, 0x400, struct.pack("BBH", 2, 0, 0)))
# An address that is not one's own: another worker's, of the same session.
me = os.environ["CDSW_IP_ADDRESS"]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind((me, 7001)); udp.settimeout(20)
(calm,) = cdsw.launch_workers(1, 0.1, 0.1, code="import time; time.sleep(1000)")
(liar,) = cdsw.launch_workers(1, 0.3, 0.2, env={"OF": calm["ip_address"]}, code="""
import os, socket
master = (os.environ["CDSW_MASTER_IP"], 7001)
false = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
false.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND needs no right
for address in (os.environ["OF"], "8.8.8.8", "127.0.0.1"):
    try:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.setsockopt(socket.IPPROTO_IP, 15, 1)
        s.bind((address, 0))
        for _ in range(3): s.sendto(b"false", master)
        print("sent as", address)
    except OSError as e:
        print("not sent as", address, e)
true = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
true.sendto(b"true", master)
""")
heard, sender = udp.recvfrom(100)
print("heard", heard, "of the liar:", sender[0] == liar["ip_address"])
assert len(cdsw.await_workers([liar["id"]])["workers"]) == 1
`).ok(t)
	all := attempt.FindAllStringSubmatch(r.out, -1)
	for _, m := range all {
		if m[2] != "refused" {
			t.Error(m[0])
		}
	}
	if len(all) < 33 {
		t.Errorf("%d attacks told how they went:\n%s", len(all), r.out)
	}
	r.has(t, "heard b'true' of the liar: True", "sent as 100.", "sent as 8.8.8.8", "sent as 127.0.0.1")
	n.unharmed()
}
