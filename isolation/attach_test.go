package isolation_test

import (
	"testing"

	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
)

func TestAttachments(t *testing.T) {
	programs := isolationtest.Programs(t)
	isolationtest.Attachments(t, func(t *testing.T, workDir, runtimeDir string) isolation.Containerizer {
		return newMesos(t, programs, workDir, runtimeDir)
	})
}
