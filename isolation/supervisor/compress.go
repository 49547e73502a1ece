package supervisor

import (
	"compress/gzip"
	"io"
	"syscall"
)

// errCanceled says that a compression was given up.
const errCanceled = syscall.ECANCELED

// deflater compresses older files of output. What is used again makes no garbage, and so
// less memory.
type deflater struct {
	z      *gzip.Writer
	buffer [32 << 10]byte
}

// gzip compresses in to out until it is told not to.
func (d *deflater) gzip(out io.Writer, in io.Reader, cancel <-chan struct{}) error {
	if d.z == nil {
		d.z = gzip.NewWriter(out)
	}
	d.z.Reset(out)
	for {
		select {
		case <-cancel:
			return errCanceled
		default:
		}
		n, err := in.Read(d.buffer[:])
		if n > 0 {
			if _, err := d.z.Write(d.buffer[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return d.z.Close()
		}
		if err != nil {
			return err
		}
	}
}
