# SPDX-License-Identifier: Apache-2.0
"""What the host and texts are: files, JSON, logs, programs, whom to trust. It knows nothing of CDI."""
