package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Usual is the weight that each group has that nobody has given another one.
const Usual = 100

// Weigh gives the group a share of the processors' time among its siblings (cpu.weight, Documentation/admin-guide/cgroup-v2.rst), where
// the kernel divides that here.
func (g *Group) Weigh(weight int) error {
	parent := filepath.Dir(g.path)
	content, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if err != nil || !slices.Contains(strings.Fields(string(content)), "cpu") {
		return err
	}
	if err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+cpu"), 0); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(g.path, "cpu.weight"), []byte(strconv.Itoa(weight)), 0)
}
