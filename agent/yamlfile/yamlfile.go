// Package yamlfile reads YAML files strictly, with errors that say where.
package yamlfile

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// Decode reads YAML into v, which holds the defaults. Unknown keys are errors. An error is
// "file:line:column: key: what is wrong".
func Decode(file string, data []byte, v any) (err error) {
	defer func() { // the YAML library panics on some malformed input
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: is not YAML", file)
		}
	}()
	if err := unknown(file, data, v); err != nil {
		return err
	}
	if err := yaml.UnmarshalWithOptions(data, v, yaml.Strict()); err != nil {
		return placed(file, data, err)
	}
	return nil
}

// placed finds the place of an error of the YAML decoder.
func placed(file string, data []byte, err error) error {
	var at *token.Token
	text := err.Error()
	var place yaml.Error
	if errors.As(err, &place) {
		at, text = place.GetToken(), place.GetMessage()
	} else {
		at = mentioned(data, text)
	}
	if strings.Contains(text, "uration") {
		text += "; a duration is written like 10s or 2h4m"
	}
	if at == nil || at.Position == nil {
		return fmt.Errorf("%s: %s", file, text)
	}
	if key := keyOf(at); key != "" {
		text = key + ": " + text
	}
	return fmt.Errorf("%s:%d:%d: %s", file, at.Position.Line, at.Position.Column, text)
}

// mentioned finds the value that an error without a place quotes.
func mentioned(data []byte, text string) *token.Token {
	for _, t := range lexer.Tokenize(string(data)) {
		if t.Type == token.StringType && strings.Contains(text, strconv.Quote(t.Value)) {
			return t
		}
	}
	return nil
}

// keyOf is the key before a value.
func keyOf(value *token.Token) string {
	if colon := value.Prev; colon != nil && colon.Type == token.MappingValueType && colon.Prev != nil {
		return colon.Prev.Value
	}
	return ""
}
