"""The experiments of the papers, from data to judged figures; they import the library, never the reverse."""
