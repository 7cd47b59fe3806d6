package report

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

//go:embed results.schema.json
var schema []byte

// Schema returns the JSON Schema of results.json.
func Schema() []byte { return bytes.Clone(schema) }

// compiled is the schema, compiled once.
var compiled = sync.OnceValues(func() (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, fmt.Errorf("parse the results schema: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("results.schema.json", doc); err != nil {
		return nil, fmt.Errorf("add the results schema: %w", err)
	}
	s, err := c.Compile("results.schema.json")
	if err != nil {
		return nil, fmt.Errorf("compile the results schema: %w", err)
	}
	return s, nil
})

// maxProblems is how many problems of a document Validate names.
const maxProblems = 5

// Validate checks the bytes of a results.json against the schema. The error names the first few
// places that are wrong, as JSON pointers.
func Validate(data []byte) error {
	s, err := compiled()
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return place(data, err)
	}
	err = s.Validate(doc)
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	problems := leaves(invalid, nil)
	if n := len(problems); n > maxProblems {
		problems = append(problems[:maxProblems], fmt.Sprintf("and %d more", n-maxProblems))
	}
	return errors.New(strings.Join(problems, "; "))
}

// leaves appends the innermost causes of a validation error to list.
func leaves(e *jsonschema.ValidationError, list []string) []string {
	if len(e.Causes) == 0 {
		p := message.NewPrinter(language.English)
		where := "/" + strings.Join(e.InstanceLocation, "/")
		return append(list, where+": "+e.ErrorKind.LocalizedString(p))
	}
	for _, c := range e.Causes {
		list = leaves(c, list)
	}
	return list
}
