package client

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"os"
	"strings"

	"muster/engine"
)

// TLS says how a server is known that is asked by https.
type TLS struct {
	// CAFile holds certificates in PEM form that are trusted instead of the machine's; "": the machine's.
	CAFile string
	// Fingerprint is that of the public key of the server's certificate, as "muster up" prints it and curl's --pinnedpubkey takes
	// it: sha256//BASE64. It is enough by itself: then nobody has to have signed the certificate, and its names do not matter.
	Fingerprint string
}

func (t TLS) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, engine.Errorf(engine.Invalid, "the certificates to trust: %w", err).WithHint("correct MUSTER_TLS_CA")
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, engine.Errorf(engine.Invalid, "%s holds no certificate in PEM form", t.CAFile).WithHint("correct MUSTER_TLS_CA")
		}
	}
	if t.Fingerprint == "" {
		return c, nil
	}
	text, ok := strings.CutPrefix(t.Fingerprint, "sha256//")
	want, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(want) != sha256.Size {
		return nil, engine.Errorf(engine.Invalid, "%q is no fingerprint of a server: it has the form sha256//BASE64", t.Fingerprint).
			WithHint("muster up prints it; set MUSTER_TLS_FINGERPRINT to that")
	}
	c.InsecureSkipVerify = true // for this, which is stricter
	c.VerifyConnection = func(s tls.ConnectionState) error {
		got := sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo)
		if string(got[:]) != string(want) {
			return engine.Errorf(engine.Unavailable, "another server answers: its key has the fingerprint sha256//%s", base64.StdEncoding.EncodeToString(got[:]))
		}
		return nil
	}
	return c, nil
}

// isTLS reports whether a connection failed because the other end is not known.
func isTLS(err error) bool {
	_, unverified := errors.AsType[*tls.CertificateVerificationError](err)
	return unverified || strings.Contains(err.Error(), "another server answers")
}
