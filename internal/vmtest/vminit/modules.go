package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// modulesTable has a line for each name and each alias of a module: the name, and
// the files to load in their order (see modules.go of internal/vmtest).
const modulesTable = "/lib/modules/table"

// parameters keep modules from making links that nobody asked for.
var parameters = map[string]string{"dummy.ko": "numdummies=0", "ifb.ko": "numifbs=0"}

// modprobe is what the kernel calls: modprobe -q -- NAME.
func modprobe(args []string) int {
	code := 0
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			continue
		}
		if err := load(a); err != nil {
			code = 1
		}
	}
	return code
}

// load loads a module, known by its name or an alias, and what it needs.
func load(name string) error {
	f, err := os.Open(modulesTable)
	if err != nil {
		return err
	}
	defer f.Close()
	want := strings.ReplaceAll(name, "-", "_")
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); fields[0] == want {
			for _, file := range fields[1:] {
				if err := insert(file); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return fmt.Errorf("module %s: %w", name, os.ErrNotExist)
}

func insert(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), parameters[filepath.Base(file)], 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load %s: %w", file, err)
	}
	return nil
}
