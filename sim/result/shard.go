package result

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Shard is a part of a suite, so that several machines can share it: number Index, from 1, of Count. The
// zero value is the whole suite.
type Shard struct{ Index, Count int }

// maxShards bounds Count: more machines than that are a slip of the finger.
const maxShards = 1000

// ParseShard reads "2/5", the second of five; nothing is the whole.
func ParseShard(text string) (Shard, error) {
	if text == "" {
		return Shard{}, nil
	}
	index, count, ok := strings.Cut(text, "/")
	i, err1 := strconv.Atoi(index)
	n, err2 := strconv.Atoi(count)
	if !ok || errors.Join(err1, err2) != nil || i < 1 || i > n || n > maxShards {
		return Shard{}, fmt.Errorf("shard %q: want I/N, such as 1/4, with 1 <= I <= N <= %d", text, maxShards)
	}
	return Shard{i, n}, nil
}

// String is what ParseShard reads.
func (s Shard) String() string {
	if s.Count == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", s.Index, s.Count)
}

// Has tells whether number i, from 0, of what the suite runs belongs to the shard. Each is in exactly
// one of all shards, and neighbours, which often take equally long, are in different ones.
func (s Shard) Has(i int) bool { return s.Count == 0 || i%s.Count == s.Index-1 }
