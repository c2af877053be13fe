// SPDX-License-Identifier: Apache-2.0
// The cheapest OCI runtime there is: what it costs to exec a program at all.
int main(void) { return 0; }
