package spec

// WordLists are words of the language, for the test that compares them with other packages'.
type WordLists struct {
	Free, Reasons, LeftOut, States []string
	Layers                         map[string][]string
}

// Words returns the lists.
func Words() WordLists {
	w := WordLists{Free: freeFields, Reasons: lossReasons, LeftOut: leftOutReasons, States: lifetimeNames,
		Layers: map[string][]string{}}
	for kind := range layerKinds {
		w.Layers[kind] = layerObject(kind).names()
	}
	return w
}
