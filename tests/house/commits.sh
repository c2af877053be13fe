#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# commits.sh BASE: check the subjects of the commits since BASE: `area: effect`, 72 characters at most.
set -eu

git log --no-merges --format='%h %s' "$1.." | awk '
	{ hash = $1; sub(/^[^ ]* /, "") }
	/^Revert / { next }
	length > 72 || !/^[a-z][a-zA-Z0-9 _.-]*: [^ ]/ {
		print hash ": \"" $0 "\" is not of the form \"area: effect\" in 72 characters at most"
		bad = 1
	}
	END { exit bad }
'
