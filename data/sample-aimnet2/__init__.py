"""A sample of the labels that scripts/label_teacher.sh makes: geometries labelled by AIMNet2."""
