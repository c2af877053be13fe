# SPDX-License-Identifier: Apache-2.0
"""`cdi-hook doctor`: why a device isn't there. checks/ has a file for each subject; none changes anything."""
