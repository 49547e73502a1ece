package authz

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// nodeKind is what a value of a file is.
type nodeKind int

const (
	nullNode nodeKind = iota
	boolNode
	numberNode
	stringNode
	arrayNode
	objectNode
)

// node is a value of a file. Unlike a map it keeps the order of keys and those that stand
// twice.
type node struct {
	kind  nodeKind
	bool  bool
	text  string   // of strings and numbers
	keys  []string // of objects, beside items
	items []*node
}

// maxDepth bounds how deep values nest; rules need five levels.
const maxDepth = 16

var (
	errDepth = errors.New("values nest too deeply")
	errUTF8  = errors.New("the text is not UTF-8")
	errTail  = errors.New("something follows the closing brace")
)

// parseJSON reads one value.
func parseJSON(data []byte) (*node, error) {
	if !utf8.Valid(data) {
		return nil, errUTF8
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	root, err := parseValue(dec, 0)
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", lineOf(data, dec.InputOffset()), err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("line %d: %w", lineOf(data, dec.InputOffset()), errTail)
	}
	return root, nil
}

func lineOf(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:min(int64(len(data)), offset)], []byte("\n"))
}

func parseValue(dec *json.Decoder, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	tok, err := dec.Token()
	if errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	switch tok := tok.(type) {
	case bool:
		return &node{kind: boolNode, bool: tok}, nil
	case json.Number:
		return &node{kind: numberNode, text: tok.String()}, nil
	case string:
		return &node{kind: stringNode, text: tok}, nil
	case json.Delim:
		return parseMembers(dec, depth, tok == '{')
	}
	return &node{}, nil
}

// parseMembers reads an object or an array up to its end.
func parseMembers(dec *json.Decoder, depth int, object bool) (*node, error) {
	n := &node{kind: arrayNode}
	if object {
		n.kind = objectNode
	}
	for dec.More() {
		if object {
			key, err := dec.Token()
			if err != nil {
				return nil, fmt.Errorf("read JSON: %w", err)
			}
			name, ok := key.(string)
			if !ok {
				return nil, fmt.Errorf("read JSON: %v is no key", key)
			}
			n.keys = append(n.keys, name)
		}
		item, err := parseValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, item)
	}
	if _, err := dec.Token(); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	return n, nil
}

// String says what a value is, for errors.
func (n *node) String() string {
	switch n.kind {
	case boolNode:
		return fmt.Sprint(n.bool)
	case numberNode:
		return n.text
	case stringNode:
		return fmt.Sprintf("%q", n.text)
	case arrayNode:
		return "an array"
	case objectNode:
		return "an object"
	default:
		return "null"
	}
}
