"""What tables of labelled texts show of themselves: format, columns, texts and labels."""
