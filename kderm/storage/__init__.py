"""Files that live elsewhere, in a shared folder or an object store, and copies of them here."""
