package work

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
)

// upload copies --package into HDFS by the hadoop program, below the user's name, and returns
// its URI, which agents fetch by the same program (Mesos: src/cli/execute.cpp, src/hdfs/hdfs.cpp).
func upload(ctx context.Context, c *cliv2.Context, owner string) (string, error) {
	local := c.String("package")
	if info, err := os.Stat(local); err != nil {
		return "", fmt.Errorf("--package: %w", err)
	} else if !info.Mode().IsRegular() {
		return "", console.Usagef("--package: %s is no file", local)
	}
	hadoop := c.String("hadoop")
	if _, err := runHadoop(ctx, hadoop, "version"); err != nil {
		return "", console.Hint(fmt.Errorf("Failed to create HDFS client: %w", err), //nolint:staticcheck // Mesos's words
			"--hadoop names the hadoop program; without HDFS serve the file by HTTP: clusterd run --uri URI")
	}
	remote := path.Join("/", owner, local)
	status, err := runHadoop(ctx, hadoop, "fs", "-test", "-e", remote)
	switch {
	case status == 1: // it is not there
	case err != nil:
		return "", fmt.Errorf("Failed to check if file exists: %w", err) //nolint:staticcheck // Mesos's words
	case !boolean(c, "overwrite"):
		return "", console.Hint(fmt.Errorf("%s: File already exists", remote), "--overwrite replaces it")
	default:
		if _, err := runHadoop(ctx, hadoop, "fs", "-rm", remote); err != nil {
			return "", fmt.Errorf("Failed to remove existing file: %w", err) //nolint:staticcheck // Mesos's words
		}
	}
	if _, err := runHadoop(ctx, hadoop, "fs", "-copyFromLocal", local, remote); err != nil {
		return "", fmt.Errorf("Failed to copy package: %w", err) //nolint:staticcheck // Mesos's words
	}
	return "hdfs://" + c.String("hdfs") + remote, nil
}

// runHadoop runs the hadoop program; status is its exit code, 0 where it did not run.
func runHadoop(ctx context.Context, program string, args ...string) (status int, err error) {
	cmd := exec.CommandContext(ctx, program, args...)
	// What it leaves behind must not hold this process up.
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err == nil {
		return 0, nil
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status = exit.ExitCode()
	}
	err = fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	if said := strings.TrimSpace(string(out)); said != "" {
		err = fmt.Errorf("%w: %s", err, said[strings.LastIndexByte(said, '\n')+1:]) // the last line says why
	}
	return status, err
}
