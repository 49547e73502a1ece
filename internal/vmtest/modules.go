package vmtest

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// module is a kernel module.
type module struct {
	// file is its path below the folder of modules.
	file string
	// depends are the names of the modules that it needs.
	depends []string
	// aliases are names that the kernel asks for it by.
	aliases []string
}

// moduleFolders are those of which the tests may need something.
var moduleFolders = []string{"fs", "net", "drivers/net", "drivers/block", "drivers/virtio", "drivers/char", "crypto", "arch/x86/crypto", "lib", "block", "mm"}

// readModules reads the modules below a folder as depmod does.
func readModules(dir string) (map[string]module, error) {
	modules := make(map[string]module)
	for _, folder := range moduleFolders {
		err := filepath.WalkDir(filepath.Join(dir, "kernel", folder), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || filepath.Ext(path) != ".ko" {
				return err
			}
			m, err := readModule(path)
			if err != nil {
				return fmt.Errorf("module %s: %w", path, err)
			}
			if m.file, err = filepath.Rel(dir, path); err != nil {
				return err
			}
			modules[moduleName(strings.TrimSuffix(filepath.Base(path), ".ko"))] = m
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return modules, nil
}

func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

func readModule(path string) (module, error) {
	f, err := elf.Open(path)
	if err != nil {
		return module{}, err
	}
	defer func() { _ = f.Close() }()
	section := f.Section(".modinfo")
	if section == nil {
		return module{}, errors.New("no .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return module{}, err
	}
	var m module
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		key, value, _ := strings.Cut(string(entry), "=")
		switch {
		case key == "depends" && value != "":
			m.depends = strings.Split(value, ",")
		case key == "alias" && !strings.ContainsAny(value, "*? "): // the others are hardware
			m.aliases = append(m.aliases, value)
		}
	}
	return m, nil
}

// loadOrder lists the files that must be loaded for a module, itself last. What is
// not among the modules is taken for built in.
func loadOrder(modules map[string]module, name, prefix string) []string {
	var order []string
	seen := make(map[string]bool)
	var visit func(name string)
	visit = func(name string) {
		name = moduleName(name)
		m, ok := modules[name]
		if !ok || seen[name] {
			return
		}
		seen[name] = true
		for _, d := range m.depends {
			visit(d)
		}
		order = append(order, filepath.Join(prefix, m.file))
	}
	visit(name)
	return order
}

// writeModulesTable writes the lines that vminit loads modules by.
func writeModulesTable(path, prefix string, modules map[string]module, names []string) error {
	var b bytes.Buffer
	for _, name := range names {
		files := strings.Join(loadOrder(modules, name, prefix), " ")
		for _, key := range append([]string{name}, modules[name].aliases...) {
			fmt.Fprintf(&b, "%s %s\n", moduleName(key), files)
		}
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

func sortedNames(modules map[string]module) []string {
	names := make([]string, 0, len(modules))
	for n := range modules {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
