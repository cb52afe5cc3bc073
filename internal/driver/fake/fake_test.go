package fake_test

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"go.uber.org/goleak"

	"muster/internal/driver"
	"muster/internal/driver/drivertest"
	"muster/internal/driver/fake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	world := fake.NewWorld()
	drivertest.Run(t, drivertest.Factory{
		New:     func(t *testing.T) driver.Driver { return fake.New(fake.Options{World: world}) },
		Express: express,
		Restart: func(t *testing.T, d driver.Driver) driver.Driver {
			d.Close()
			return fake.New(fake.Options{World: world})
		},
		Lacks: []string{"Ahead", "Isolation", "CPUShare", "CPUCap", "GPU", "Loopback", "AttachReach", "AttachApart"},
		Steps: fake.EngineSteps,
		FailAt: func(t *testing.T, step string) driver.Driver {
			return fake.New(fake.Options{World: world, Fail: func(at string, s driver.Spec) error {
				if at == step && s.Name == "fails" {
					return errors.New("injected")
				}
				return nil
			}})
		},
		Count: func() map[string]int {
			n := world.Count()
			n["descriptors"] = descriptors(t)
			n["goroutines"] = runtime.NumGoroutine()
			return n
		},
	})
}

func descriptors(t *testing.T) int {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
