// SPDX-License-Identifier: Apache-2.0
//
// What runc and runsc see of a config.json, which they read by encoding/json: the fields of the OCI
// runtime specification's Spec that can ask for a device. From stdin to stdout; "null" if it is refused.
package main

import (
	"encoding/json"
	"os"
)

type spec struct {
	Annotations map[string]string `json:"annotations"`
	Process     *struct {
		Env []string `json:"env"`
	} `json:"process"`
	Mounts []struct {
		Destination string `json:"destination"`
	} `json:"mounts"`
}

func main() {
	found := &spec{}
	if err := json.NewDecoder(os.Stdin).Decode(found); err != nil { // as runc does: what follows isn't read
		found = nil
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		panic(err)
	}
}
