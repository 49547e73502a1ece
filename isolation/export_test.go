package isolation

import "io/fs"

// LoadProgramsFrom is LoadPrograms with other files.
func LoadProgramsFrom(files fs.FS) (*Programs, error) { return loadPrograms(files) }
