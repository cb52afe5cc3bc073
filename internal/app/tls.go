package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"muster/engine"
	"muster/internal/cli"
)

// Files of a certificate that the server made for itself, in the state folder.
const (
	ownCertFile = "tls-cert.pem"
	ownKeyFile  = "tls-key.pem"
	ownCertLife = 10 * 365 * 24 * time.Hour // who trusts it has its fingerprint: a new one would have to be told to all
	ownCertRest = 30 * 24 * time.Hour       // with less than this left a new one is made
)

// checkPlain refuses to send tokens, code and output through a network that others read, unless somebody says so.
func checkPlain(o cli.UpOptions) error {
	if o.Insecure {
		return nil
	}
	for _, l := range []struct{ flag, address string }{{"--listen", o.Listen}, {"--tcp", o.TCP}} {
		if hostport, isTCP := strings.CutPrefix(l.address, "tcp://"); isTCP && !o.TLS.Asked() && !loopback(hostport) {
			return engine.Errorf(engine.Invalid, "%s %s is an address that other machines reach, and without TLS they read tokens, code and output on the way",
				l.flag, hostport).WithHint("add --tls self, or --tls-cert FILE --tls-key FILE; --insecure does without")
		}
	}
	if o.Web != "" && o.Web != noWeb && !loopback(o.Web) {
		return engine.Errorf(engine.Invalid, "--web %s is an address that other machines reach, and there is no TLS for web addresses: others read logins and pages on the way", o.Web).
			WithHint("serve them at 127.0.0.1 and forward the port (ssh -L), or put a proxy that speaks TLS in front; --insecure does without")
	}
	return nil
}

func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// certificate is what the TCP listeners speak TLS with; nil: they do not.
func certificate(o cli.TLSOptions, state string) (*tls.Certificate, error) {
	cert, key := o.Cert, o.Key
	switch {
	case !o.Asked():
		return nil, nil
	case o.Self:
		cert, key = filepath.Join(state, ownCertFile), filepath.Join(state, ownKeyFile)
		if err := ownCertificate(cert, key, time.Now()); err != nil {
			return nil, engine.Errorf(engine.Unavailable, "a certificate of the server's own cannot be made: %w", err)
		}
	}
	c, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, engine.Errorf(engine.Invalid, "the certificate %s with the key %s cannot be used: %v", cert, key, err).
			WithHint("both are files in PEM form; the certificate comes first in its file, then those that signed it")
	}
	return &c, nil
}

// ownCertificate makes the files unless good ones are there.
func ownCertificate(cert, key string, now time.Time) error {
	there, err := tls.LoadX509KeyPair(cert, key)
	if err == nil && now.Add(ownCertRest).Before(there.Leaf.NotAfter) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // damaged: whoever trusts it must be told of another, so none is made in silence
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	names, addresses := ownNames()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "muster on " + names[0]},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(ownCertLife), // clocks differ
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, // so that it can stand alone in a file of authorities
		DNSNames: names, IPAddresses: addresses,
	}, &x509.Certificate{Subject: pkix.Name{CommonName: "muster on " + names[0]}}, &private.PublicKey, private)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	return errors.Join(writeWhole(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})),
		writeWhole(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// ownNames are those by which clients may know this machine.
func ownNames() (names []string, addresses []net.IP) {
	names = []string{"localhost"}
	if host, err := os.Hostname(); err == nil && host != "" && host != "localhost" {
		names = []string{host, "localhost"}
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return names, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			addresses = append(addresses, n.IP)
		}
	}
	return names, addresses
}

// fingerprint is the fingerprint of a certificate's public key in the form that curl takes (--pinnedpubkey): it stays when the certificate
// is made anew for the same key.
func fingerprint(c *tls.Certificate) string {
	sum := sha256.Sum256(c.Leaf.RawSubjectPublicKeyInfo)
	return "sha256//" + base64.StdEncoding.EncodeToString(sum[:])
}

// secured speaks TLS on a listener. HTTP/1.1 only: what ends a request ends its connection.
func secured(l net.Listener, c *tls.Certificate) net.Listener {
	if c == nil {
		return l
	}
	return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*c}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
}
