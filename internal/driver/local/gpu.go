package local

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"muster/internal/driver"
)

// GPUs lists the machine's NVIDIA GPUs from what the kernel driver shows; none if there is no such driver.
func GPUs() []driver.GPU { return gpusIn("/proc/driver/nvidia/gpus", "/dev") }

// gpusIn reads <proc>/<bus address>/information: "GPU UUID:" and "Device Minor:" say which node belongs to which device.
func gpusIn(proc, dev string) []driver.GPU {
	files, _ := filepath.Glob(filepath.Join(proc, "*", "information"))
	var gpus []driver.GPU
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		minor, uuid := -1, ""
		for _, line := range strings.Split(string(b), "\n") {
			name, value, _ := strings.Cut(line, ":")
			switch strings.TrimSpace(name) {
			case "Device Minor":
				if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31); err == nil {
					minor = int(n) // else another device's node would be taken for this one's
				}
			case "GPU UUID":
				uuid = strings.TrimSpace(value)
			}
		}
		node := filepath.Join(dev, fmt.Sprintf("nvidia%d", minor))
		if _, err := os.Stat(node); err != nil || minor < 0 {
			continue // another container's, or not usable
		}
		gpus = append(gpus, driver.GPU{Index: minor, UUID: uuid, Nodes: []string{node}})
	}
	sort.Slice(gpus, func(i, j int) bool { return gpus[i].Index < gpus[j].Index })
	return gpus
}

// sharedGPUNodes are the nodes that every engine with a GPU needs and that belong to no GPU alone.
func sharedGPUNodes() []string {
	var nodes []string
	for _, n := range []string{"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"} {
		if _, err := os.Stat(n); err == nil {
			nodes = append(nodes, n)
		}
	}
	caps, _ := filepath.Glob("/dev/nvidia-caps/*")
	return append(nodes, caps...)
}
