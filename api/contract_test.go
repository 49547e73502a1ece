package api_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	_ "clusterd/api/mesos/v1"
	_ "clusterd/api/mesos/v1/agent"
	_ "clusterd/api/mesos/v1/allocator"
	_ "clusterd/api/mesos/v1/executor"
	_ "clusterd/api/mesos/v1/maintenance"
	_ "clusterd/api/mesos/v1/master"
	_ "clusterd/api/mesos/v1/quota"
	_ "clusterd/api/mesos/v1/resource_provider"
	_ "clusterd/api/mesos/v1/scheduler"
)

var update = flag.Bool("update", false, "write testdata/contract.txt anew")

// TestContract pins the Mesos v1 contract: no name, number, type, label, default
// or deprecation may change, and no field may change its place, which is the order of
// members in JSON. Adding is possible with -update.
func TestContract(t *testing.T) {
	got := describeContract()
	file := filepath.Join("testdata", "contract.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("the contract has changed (-want +got):\n%s", diff)
	}
}

func describeContract() string {
	var files []protoreflect.FileDescriptor
	protoregistry.GlobalFiles.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		if pkg := string(fd.Package()); pkg == "mesos.v1" || strings.HasPrefix(pkg, "mesos.v1.") {
			files = append(files, fd)
		}
		return true
	})
	slices.SortFunc(files, func(a, b protoreflect.FileDescriptor) int { return strings.Compare(a.Path(), b.Path()) })
	var b strings.Builder
	for _, fd := range files {
		fmt.Fprintf(&b, "file %s %s %s\n", fd.Path(), fd.Syntax(), fd.Package())
		describeEnums(&b, fd.Enums())
		describeMessages(&b, fd.Messages())
	}
	return b.String()
}

func describeMessages(b *strings.Builder, mds protoreflect.MessageDescriptors) {
	for i := range mds.Len() {
		md := mds.Get(i)
		if md.IsMapEntry() {
			continue
		}
		fmt.Fprintf(b, "message %s\n", md.FullName())
		for j := range md.Fields().Len() {
			describeField(b, md.Fields().Get(j))
		}
		describeEnums(b, md.Enums())
		describeMessages(b, md.Messages())
	}
}

func describeField(b *strings.Builder, fd protoreflect.FieldDescriptor) {
	kind := typeName(fd)
	if fd.IsMap() {
		kind = fmt.Sprintf("map<%s,%s>", typeName(fd.MapKey()), typeName(fd.MapValue()))
	}
	fmt.Fprintf(b, "  %s %s %s %d", fd.Cardinality(), kind, fd.Name(), fd.Number())
	if fd.ContainingOneof() != nil {
		fmt.Fprintf(b, " oneof=%s", fd.ContainingOneof().Name())
	}
	switch {
	case !fd.HasDefault():
	case fd.Enum() != nil:
		fmt.Fprintf(b, " default=%s", fd.DefaultEnumValue().Name())
	default:
		fmt.Fprintf(b, " default=%v", fd.Default())
	}
	if fd.Options().(*descriptorpb.FieldOptions).GetDeprecated() {
		b.WriteString(" deprecated")
	}
	b.WriteString("\n")
}

func typeName(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.Message() != nil:
		return string(fd.Message().FullName())
	case fd.Enum() != nil:
		return string(fd.Enum().FullName())
	}
	return fd.Kind().String()
}

func describeEnums(b *strings.Builder, eds protoreflect.EnumDescriptors) {
	for i := range eds.Len() {
		fmt.Fprintf(b, "enum %s\n", eds.Get(i).FullName())
		values := eds.Get(i).Values()
		for j := range values.Len() {
			fmt.Fprintf(b, "  %s %d\n", values.Get(j).Name(), values.Get(j).Number())
		}
	}
}
