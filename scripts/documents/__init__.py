"""What is made by command and kept in the repository.

python scripts/documents templates [NAME ...]            workflows/*.json with their thumbnails, from workflows/api
python scripts/documents blueprint                       the subgraph in subgraphs
python scripts/documents pictures                        the pictures of the help pages
python scripts/documents screenshots                     the README's pictures of the editor
python scripts/documents contact_sheet VIDEO SHEET.png   a video's frames on one picture, which is not kept
"""

COMMANDS = ("templates", "blueprint", "pictures", "screenshots", "contact_sheet")
